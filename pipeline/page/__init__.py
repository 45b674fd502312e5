"""The page that runs trained networks in a browser: one HTML file, without installation or network access."""
