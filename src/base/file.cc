#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/text.h"

namespace lode {
namespace {

constexpr size_t kWriteBufferBytes = size_t{1} << 20;  // large enough that write(2) is not the cost

Result<void> WriteAll(int descriptor, const char* data, size_t bytes, const std::string& path) {
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor, data, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return SystemError("cannot write", path, errno);
    data += written;
    bytes -= static_cast<size_t>(written);
  }
  return {};
}

}  // namespace

Error SystemError(const std::string& what, const std::string& path, int error_number) {
  Code code = Code::kBadInput;
  std::string hint;
  switch (error_number) {
    case ENOENT:
      code = Code::kNotFound;
      hint = "check the path";
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      hint = "check its permissions";
      break;
    case ENOSPC:
    case EDQUOT:
      code = Code::kNoSpace;
      hint = "free some space or write to another disk";
      break;
    case ENOMEM:
      code = Code::kNoSpace;
      break;
    default:
      break;
  }
  return Error(code, Quote(path, 300) + ": " + what + ": " + std::strerror(error_number), hint);
}

bool FileExists(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0;
}

bool IsFolder(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

Result<uint64_t> FileSize(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return SystemError("cannot open", path, errno);
  if (!S_ISREG(info.st_mode)) return Error(Code::kBadInput, Quote(path, 300) + " is not a file");
  return static_cast<uint64_t>(info.st_size);
}

Result<std::string> ReadFile(const std::string& path, uint64_t bytes_max) {
  LODE_ASSIGN(const uint64_t size, FileSize(path));
  if (size > bytes_max) {
    return Error(Code::kBadInput, Quote(path, 300) + " has " + WithThousands(size) +
                                      " bytes; at most " + WithThousands(bytes_max) +
                                      " are read from such a file");
  }
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return SystemError("cannot open", path, errno);
  std::string content(size, '\0');
  size_t filled = 0;
  while (filled < content.size()) {
    const ssize_t got = ::read(descriptor, content.data() + filled, content.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int reason = errno;
      ::close(descriptor);
      return SystemError("cannot read", path, reason);
    }
    if (got == 0) break;  // it shrank while we read: the rest is not there
    filled += static_cast<size_t>(got);
  }
  ::close(descriptor);
  content.resize(filled);
  return content;
}

Result<std::vector<std::string>> ListFolder(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(path, error);
  // Not a range-for: its increment throws.
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error) return SystemError("cannot list the folder", path, error.value());
  std::sort(names.begin(), names.end());
  return names;
}

Result<std::unique_ptr<MappedFile>> MappedFile::Open(const std::string& path) {
  LODE_ASSIGN(const uint64_t size, FileSize(path));
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return SystemError("cannot open", path, errno);
  const std::byte* data = nullptr;
  if (size > 0) {
    void* map = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (map == MAP_FAILED) {
      const int reason = errno;
      ::close(descriptor);
      return SystemError("cannot map", path, reason);
    }
    data = static_cast<const std::byte*>(map);
  }
  ::close(descriptor);
  return std::unique_ptr<MappedFile>(new MappedFile(path, data, size));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

Result<AtomicFile> AtomicFile::Create(const std::string& path) {
  AtomicFile file;
  file.path_ = path;
  file.temporary_ = path + ".part-" + std::to_string(::getpid());
  file.descriptor_ =
      ::open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file.descriptor_ < 0) {
    file.temporary_.clear();
    return SystemError("cannot create", path, errno);
  }
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept { *this = std::move(other); }

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  if (this == &other) return *this;
  Abandon();
  path_ = std::move(other.path_);
  temporary_ = std::exchange(other.temporary_, {});
  buffer_ = std::move(other.buffer_);
  descriptor_ = std::exchange(other.descriptor_, -1);
  offset_ = other.offset_;
  return *this;
}

AtomicFile::~AtomicFile() { Abandon(); }

void AtomicFile::Abandon() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  descriptor_ = -1;
  temporary_.clear();
}

Result<void> AtomicFile::Write(const void* data, size_t bytes) {
  offset_ += bytes;
  if (buffer_.size() + bytes <= kWriteBufferBytes) {
    buffer_.append(static_cast<const char*>(data), bytes);
    return {};
  }
  LODE_TRY(Flush());
  if (bytes < kWriteBufferBytes) {
    buffer_.append(static_cast<const char*>(data), bytes);
    return {};
  }
  return WriteAll(descriptor_, static_cast<const char*>(data), bytes, path_);
}

Result<void> AtomicFile::Flush() {
  LODE_TRY(WriteAll(descriptor_, buffer_.data(), buffer_.size(), path_));
  buffer_.clear();
  return {};
}

Result<void> AtomicFile::Commit() {
  LODE_TRY(Flush());
  if (::fsync(descriptor_) != 0) return SystemError("cannot write", path_, errno);
  // A full disk may only say so here.
  if (::close(std::exchange(descriptor_, -1)) != 0) return SystemError("cannot write", path_, errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    return SystemError("cannot rename to", path_, errno);
  }
  temporary_.clear();
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  const int folder_descriptor =
      ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_descriptor >= 0) {
    ::fsync(folder_descriptor);  // best effort: the rename itself has already happened
    ::close(folder_descriptor);
  }
  return {};
}

Result<void> WriteFileAtomic(const std::string& path, std::string_view content) {
  LODE_ASSIGN(AtomicFile file, AtomicFile::Create(path));
  LODE_TRY(file.Write(content));
  return file.Commit();
}

Result<void> MakeFolders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return SystemError("cannot create the folder", path, error.value());
  return {};
}

}  // namespace lode
