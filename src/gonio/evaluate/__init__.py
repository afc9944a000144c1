"""How good an estimate is: image metrics and the tables made of them."""
