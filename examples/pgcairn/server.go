package main

// server are the flags of commands that connect to a server.
type server struct {
	DSN string `name:"dsn" help:"Connection string, keywords or URL; libpq's environment variables fill in what it lacks."`
}
