"""Kill, damage and fill up a grid while it trains, and compare what comes out with a grid left alone."""
