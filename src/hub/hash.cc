#include "hub/hash.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "base/file.h"

namespace lode::hub {
namespace {

constexpr size_t kReadBytes = size_t{1} << 20;

struct ContextDeleter {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

}  // namespace

Result<std::string> HashFile(const std::string& path, HashKind kind,
                             const std::function<bool()>& stop) {
  LODE_ASSIGN(const uint64_t size, FileSize(path));
  const std::unique_ptr<EVP_MD_CTX, ContextDeleter> context(EVP_MD_CTX_new());
  const EVP_MD* algorithm = kind == HashKind::kSha256 ? EVP_sha256() : EVP_sha1();
  if (context == nullptr || EVP_DigestInit_ex(context.get(), algorithm, nullptr) != 1) {
    return Error(Code::kInternal, "the checksum library does not start");
  }
  if (kind == HashKind::kGitBlob) {
    const std::string head = "blob " + std::to_string(size);
    EVP_DigestUpdate(context.get(), head.c_str(), head.size() + 1);
  }
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return SystemError("cannot open", path, errno);
  std::vector<char> buffer(kReadBytes);
  for (;;) {
    const ssize_t bytes = ::read(descriptor, buffer.data(), buffer.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0 || (stop && stop())) {
      const int error_number = errno;
      ::close(descriptor);
      if (bytes < 0) return SystemError("cannot read", path, error_number);
      return Error(Code::kCancelled, "stopped");
    }
    if (bytes == 0) break;
    EVP_DigestUpdate(context.get(), buffer.data(), static_cast<size_t>(bytes));
  }
  ::close(descriptor);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int digest_bytes = 0;
  if (EVP_DigestFinal_ex(context.get(), digest, &digest_bytes) != 1) {
    return Error(Code::kInternal, "the checksum library failed");
  }
  constexpr char kHex[] = "0123456789abcdef";
  std::string hex;
  for (unsigned int i = 0; i < digest_bytes; ++i) {
    hex += kHex[digest[i] >> 4];
    hex += kHex[digest[i] & 15];
  }
  return hex;
}

bool IsHex(const std::string& text, size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace lode::hub
