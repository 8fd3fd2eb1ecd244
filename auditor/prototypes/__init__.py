"""Images optimised so that the model puts them in a class."""
