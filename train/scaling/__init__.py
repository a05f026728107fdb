"""Success over the number of places: trainings in more and more of them, what is concluded, its page."""
