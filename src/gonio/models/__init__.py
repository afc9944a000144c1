"""Networks and weights that both systems share: specs, transformer, autoencoder, conversion."""
