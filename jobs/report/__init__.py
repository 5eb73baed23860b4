"""Pages that people read: self-contained HTML from one family of templates."""
