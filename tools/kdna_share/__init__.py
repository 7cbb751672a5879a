"""Networks whose convolutions share kernels, made from trained ones. ``tools/share.py`` is the command line."""
