"""What a grid is doing, and what a run rests on, read from results/ and state/ alone; without torch."""
