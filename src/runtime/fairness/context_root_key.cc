#include "runtime/fairness/context_root_key.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstdint>

#include "base/check.h"

namespace lode::runtime {

std::array<std::byte, 16> DeriveRootKey(std::span<const std::byte> secret, std::string_view salt,
                                        std::string_view model, std::string_view numerics) {
  std::string message = "lode.root.1";
  for (const std::string_view part : {salt, model, numerics}) {
    uint64_t bytes = part.size();
    for (int i = 0; i < 8; ++i, bytes >>= 8) message.push_back(static_cast<char>(bytes & 0xff));
    message.append(part);
  }
  std::array<std::byte, 32> digest;
  unsigned int bytes = 0;
  LODE_CHECK(HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
                  reinterpret_cast<const unsigned char*>(message.data()), message.size(),
                  reinterpret_cast<unsigned char*>(digest.data()), &bytes) != nullptr);
  LODE_CHECK(bytes == digest.size());
  std::array<std::byte, 16> key;
  std::copy_n(digest.begin(), key.size(), key.begin());
  return key;
}

std::string RandomSecret() {
  std::string secret(32, '\0');
  LODE_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(secret.data()),
                        static_cast<int>(secret.size())) == 1);
  return secret;
}

}  // namespace lode::runtime
