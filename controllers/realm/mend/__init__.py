"""How each part of a realm is brought to what it should be, through the Admin REST API."""
