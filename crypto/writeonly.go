package crypto

// WriteOnly tells that there was no identity to try: the host is one that only writes, and nothing is wrong with the key.
func (e *IdentityError) WriteOnly() bool { return e.Tried == 0 }
