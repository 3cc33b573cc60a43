"""Numbers that papers print, cell by cell, with what is known about how they were counted."""
