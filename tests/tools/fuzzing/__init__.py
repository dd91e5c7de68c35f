"""Files that lie: mutations of valid ones, and what every reader must do with them."""
