package salvage

// Near returns the names that are most like a table's.
func Near(t Table, all []Table) []Table { return near(t, all) }
