// The system's calls that a store of contexts makes, one virtual function each, so that tests can
// make the n-th of them fail. They return what the system returns and leave its errno; names are
// single components beneath an open folder. The base class is the system. Threads: all at once.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

namespace lode::runtime {

class Disk {
 public:
  virtual ~Disk() = default;
  // A link is not followed, and a pipe does not wait for its other end.
  virtual int Open(int folder, const char* name, int flags, mode_t mode);
  virtual ssize_t Write(int descriptor, const iovec* pieces, int count, off_t offset);
  virtual ssize_t Read(int descriptor, void* target, size_t bytes, off_t offset);
  virtual int Truncate(int descriptor, off_t bytes);
  virtual int SyncData(int descriptor);
  virtual int Sync(int descriptor);
  virtual int Rename(int folder, const char* from, const char* to);
  virtual int Link(int folder, const char* from, const char* to);
  virtual int Unlink(int folder, const char* name);
  // flock's operations.
  virtual int Lock(int descriptor, int operation);
  // Bytes that we may still write; UINT64_MAX when that is not known.
  virtual uint64_t FreeBytes(int descriptor);
  // For salts and nonces. 0, or -1.
  virtual int Random(void* target, size_t bytes);
};

}  // namespace lode::runtime
