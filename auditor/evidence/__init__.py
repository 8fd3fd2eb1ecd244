"""What is measured of each class and concept, before anything is concluded."""
