"""SerialRED: finding crystals, tracking them while they rotate, holding the pattern still.

After Bin Wang, thesis, Stockholm University (2019), chapter 4. Algorithms only, on arrays; the
instrument is driven by the tasks.
"""
