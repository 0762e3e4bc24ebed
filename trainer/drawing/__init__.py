"""Pictures of numbers, drawn with Pillow: charts, their colours and their letters."""
