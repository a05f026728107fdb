"""What torch was built with."""

cuda = "12.8"
