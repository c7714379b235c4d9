"""Running instamatic's own servers: for trying the adapter, and with the twin behind them."""
