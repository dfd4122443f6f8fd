"""What a user sees on the terminal."""
