"""One file with results, what they rest on and what describes them, and the way back; without torch."""
