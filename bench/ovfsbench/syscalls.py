def count(*a): return []
