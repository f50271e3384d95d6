"""What `make run` shows: recorded weather, through the virtual board and a broker, on a console."""
