"""Generation: the job queue, page jobs, prefetching, budgets and hooks. It knows requests and results, not HTML."""
