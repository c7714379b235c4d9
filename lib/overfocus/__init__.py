"""The linear map between scan and detector from one strongly defocused 4D-STEM scan.

In detector coordinates the frame of scan point s is ``f_s(x) = a(x - c - D s) o(x - G s)``: an
aperture that descan leaves moving by D, times the shadow of the specimen that moves by
``G = D - A``. A takes scan pixels to detector pixels; it is what every later 4D-STEM analysis
needs. All coordinates are (row, column) = (y, x), scan points count from the centre of the scan.
"""
