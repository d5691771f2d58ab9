#include "runtime/saved/context_disk.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>

namespace lode::runtime {

int Disk::Open(int folder, const char* name, int flags, mode_t mode) {
  return ::openat(folder, name, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, mode);
}
ssize_t Disk::Write(int descriptor, const iovec* pieces, int count, off_t offset) {
  return ::pwritev(descriptor, pieces, count, offset);
}
ssize_t Disk::Read(int descriptor, void* target, size_t bytes, off_t offset) {
  return ::pread(descriptor, target, bytes, offset);
}
int Disk::Truncate(int descriptor, off_t bytes) { return ::ftruncate(descriptor, bytes); }
int Disk::SyncData(int descriptor) { return ::fdatasync(descriptor); }
int Disk::Sync(int descriptor) { return ::fsync(descriptor); }
int Disk::Rename(int folder, const char* from, const char* to) {
  return ::renameat(folder, from, folder, to);
}
int Disk::Link(int folder, const char* from, const char* to) {
  return ::linkat(folder, from, folder, to, 0);
}
int Disk::Unlink(int folder, const char* name) { return ::unlinkat(folder, name, 0); }
int Disk::Lock(int descriptor, int operation) { return ::flock(descriptor, operation); }

uint64_t Disk::FreeBytes(int descriptor) {
  struct statvfs info;
  if (::fstatvfs(descriptor, &info) != 0) return UINT64_MAX;
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

int Disk::Random(void* target, size_t bytes) {  // at most 256: whole or not at all
  return ::getrandom(target, bytes, 0) == static_cast<ssize_t>(bytes) ? 0 : -1;
}

}  // namespace lode::runtime
