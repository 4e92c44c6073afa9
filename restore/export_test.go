package restore

// Apart orders the numbers below n for a number of jobs.
func Apart(n, jobs int) []int { return apart(n, jobs) }
