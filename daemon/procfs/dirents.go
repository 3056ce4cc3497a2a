package procfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
)

// direntName is the offset of d_name in struct linux_dirent64
// (include/linux/dirent.h): u64 ino, s64 off, u16 reclen, u8 type, char name[].
const direntName = 8 + 8 + 2 + 1

var errNoNUL = errors.New("directory entry without the end of its name")

// Dirents calls yield for each name in a buffer that getdents64(2) filled, "."
// and ".." included. A name keeps the NUL that ends it, so that it can be
// handed to the kernel where it lies, and is valid as long as the buffer. What
// pads an entry behind it is left over from earlier calls (filldir64 in
// fs/readdir.c). An entry that cannot be one is an error, and the last.
func Dirents(data []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for len(data) > 0 {
			if len(data) <= direntName {
				yield(nil, fmt.Errorf("directory entry of %d bytes", len(data)))
				return
			}
			size := int(binary.NativeEndian.Uint16(data[16:]))
			if size <= direntName || size > len(data) {
				yield(nil, fmt.Errorf("directory entry says it has %d of %d bytes", size, len(data)))
				return
			}
			end := bytes.IndexByte(data[direntName:size], 0)
			if end < 0 {
				yield(nil, errNoNUL)
				return
			}
			if !yield(data[direntName:direntName+end+1], nil) {
				return
			}
			data = data[size:]
		}
	}
}
