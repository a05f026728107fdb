"""The sample captures that ship with splatyard, and the scripts that made them."""
