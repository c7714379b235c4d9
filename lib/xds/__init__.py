"""Files of XDS, XSCALE, XDSCONV and POINTLESS, read into types."""
