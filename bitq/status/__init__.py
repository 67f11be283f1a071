"""Report the progress of a grid and what a result depends on, from results/ and state/ alone; without torch."""
