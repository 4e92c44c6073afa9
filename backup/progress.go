package backup

import "time"

// Progress tells how far a backup has come.
type Progress struct {
	Phase     string        // "start", "read", "stop", "wal", "commit"
	ReadBytes int64         // read from the source so far
	Total     int64         // bytes there are to read, as far as is known
	Stored    int64         // bytes of committed packs
	Files     int           // that are in the backup
	Rate      int64         // bytes read a second, over the last ten; 0 when not known, or not reading
	Remaining time.Duration // to read the rest at that rate; 0 as Rate is
}

// progressEvery is how often Options.Progress is called while files are read.
const progressEvery = 200 * time.Millisecond
