// Package restore recovers a cluster from a repository: to the end of the archived WAL, to a time, or to another
// [Target].
//
// [Prepare] gathers what the repository holds and [NewPlan] decides, purely, which backup to restore, along which
// timelines, with which WAL, or says why the target cannot be reached. [Plan.Run] does it. PostgreSQL itself replays
// the WAL when it is started on the result. [Windows] tells all that could be recovered. [OpenFS] shows the files of a
// backup without restoring it.
package restore
