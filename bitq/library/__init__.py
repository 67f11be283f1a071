"""The library: quantize, train, calibrate, export and load networks that bitq did not build."""
