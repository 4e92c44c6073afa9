// Package repotest helps to test what uses a [repo.Store] and what implements one: [Mem] is a store in memory, [Faulty]
// makes a store fail as told, and [TestStore] checks a store against every obligation of the interface.
//
// Nothing here opens a connection, sleeps, or reads a clock.
package repotest
