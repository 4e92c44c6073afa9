// Package drill proves that a recovery would work, by doing it: it plans, restores to a scratch directory, boots a private
// server there, waits until it has recovered, asks it questions, and removes everything again.
//
// [Run] drills a recovery to a target, [RunPlan] one that has been planned. A [Report] tells where recovery ended, what
// became of each [Check], and how long each phase took, which is the real recovery time. What a drill finds wrong is an
// *[Error] that says in which [Phase]. [RandomBackup] and [RandomMoment] choose what to drill.
//
// The server listens on a Unix socket only, in a directory that nobody else can enter. It archives nothing, connects to
// no publisher and no standby, and preloads no libraries unless asked. It does not run as root.
package drill
