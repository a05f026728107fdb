"""What the page of a simulation is made of: robots' shapes, the pace of time, and where visitors look from."""
