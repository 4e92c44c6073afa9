package wal

// RelationCreate is the creation of one fork of a relation's files.
type RelationCreate struct {
	Relation Relation
	Fork     ForkNumber
}

// RelationTruncate is the cutting off of a relation's files (xl_smgr_truncate).
type RelationTruncate struct {
	Relation   Relation
	Block      uint32 // the first that is gone from the main fork
	Main       bool   // the main fork is cut
	FSM        bool   // its free space map
	Visibility bool   // its visibility map
}

// DatabaseCreate is the creation of a database, or its move into a tablespace.
type DatabaseCreate struct {
	Database         uint32 // OID
	Tablespace       uint32 // OID
	SourceDatabase   uint32 // whose files are copied without being in the WAL; 0 when each block is in it
	SourceTablespace uint32
}

// DatabaseDrop is the removal of a database's files in some tablespaces.
type DatabaseDrop struct {
	Database    uint32
	Tablespaces []uint32
}

// Kinds of records (storage_xlog.h, dbcommands_xlog.h).
const (
	storageCreate   = 0x10
	storageTruncate = 0x20

	databaseCopy   = 0x00
	databaseDrop13 = 0x10 // until 14
	databaseCreate = 0x10 // since 15
	databaseDrop   = 0x20 // since 15
	truncateMain   = 1 << 0
	truncateVM     = 1 << 1
	truncateFSM    = 1 << 2
)

func (r *Record) storage() (any, error) {
	f := fields{b: r.Data}
	switch r.kind() {
	case storageCreate:
		return &RelationCreate{Relation: f.relation(), Fork: ForkNumber(f.uint32())}, f.err
	case storageTruncate:
		t := &RelationTruncate{Block: f.uint32(), Relation: f.relation()}
		flags := f.uint32()
		t.Main, t.Visibility, t.FSM = flags&truncateMain != 0, flags&truncateVM != 0, flags&truncateFSM != 0
		return t, f.err
	}
	return nil, nil //nolint:nilnil // of no interest
}

func (r *Record) database() (any, error) {
	f := fields{b: r.Data}
	kind := r.kind()
	switch {
	case kind == databaseCopy:
		return &DatabaseCreate{Database: f.uint32(), Tablespace: f.uint32(), SourceDatabase: f.uint32(), SourceTablespace: f.uint32()}, f.err
	case kind == databaseCreate && r.major >= 15:
		return &DatabaseCreate{Database: f.uint32(), Tablespace: f.uint32()}, f.err
	case kind == databaseDrop13 && r.major < 15, kind == databaseDrop && r.major >= 15:
		d := &DatabaseDrop{Database: f.uint32()}
		d.Tablespaces = f.xids(f.count(4))
		return d, f.err
	}
	return nil, nil //nolint:nilnil // of no interest
}
