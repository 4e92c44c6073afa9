package drill

// Upwards calls do for all that is in a tree, in the order in which it is given to another user.
func Upwards(tree string, do func(path string) error) error { return upwards(tree, do) }
