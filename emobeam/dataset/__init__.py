"""The output as a transactional store of Parquet tables: what is in it, and every way in which it changes. No Beam."""
