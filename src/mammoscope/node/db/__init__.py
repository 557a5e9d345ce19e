"""What the node remembers: in come studies, readings and deliveries as they happen, out go records for people and jobs.

`Records` (`repository.py`) is the one entrance; the database is SQLite in the storage folder or a PostgreSQL that
several workers share. No row holds a patient's name, number or date. Tables change by migrations alone.
"""
