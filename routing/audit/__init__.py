"""Cost audit: what logged calls cost, whether the log can be trusted, and what routing would have changed."""
