#include "runtime/saved/context_seal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "base/check.h"

namespace lode::runtime {
namespace {

using Key = std::array<std::byte, 32>;

constexpr size_t kTag = 16;
constexpr size_t kPieceBytes = size_t{1} << 28;  // EVP counts in int
constexpr size_t kOpenedBytes = size_t{128} << 10;

struct CipherDeleter {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};

const unsigned char* In(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}
unsigned char* Out(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }

// HMAC-SHA256 of a purpose and a salt.
Key Derive(const Key& key, std::string_view purpose, std::span<const std::byte> salt) {
  std::vector<std::byte> message(purpose.size() + salt.size());
  std::copy_n(reinterpret_cast<const std::byte*>(purpose.data()), purpose.size(), message.begin());
  std::copy(salt.begin(), salt.end(), message.begin() + static_cast<ptrdiff_t>(purpose.size()));
  Key derived;
  unsigned int bytes = 0;
  LODE_CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), In(message.data()),
                  message.size(), Out(derived.data()), &bytes) != nullptr);
  LODE_CHECK(bytes == derived.size());
  return derived;
}

class AesGcmSealer final : public Sealer {
 public:
  explicit AesGcmSealer(const Key& key) : key_(key), key_id_(Derive(key, "lode.seal.name", {})) {}
  ~AesGcmSealer() override { OPENSSL_cleanse(key_.data(), key_.size()); }

  ContextDigest key_id() const override { return key_id_; }
  size_t overhead() const override { return kTag; }

  Result<void> Seal(const ContextSalt& salt, const ContextNonce& nonce,
                    std::span<const std::byte> header, std::span<const std::byte> plain,
                    std::span<std::byte> sealed) const override {
    LODE_CHECK(sealed.size() == plain.size() + kTag);
    const auto context = Start(salt, nonce, header, /*encrypt=*/true);
    if (context == nullptr) return Failed();
    int bytes = 0;
    for (size_t at = 0; at < plain.size(); at += kPieceBytes) {
      const int piece = static_cast<int>(std::min(kPieceBytes, plain.size() - at));
      if (EVP_EncryptUpdate(context.get(), Out(sealed.data() + at), &bytes, In(plain.data() + at),
                            piece) != 1) {
        return Failed();
      }
    }
    unsigned char* const tag = Out(sealed.data() + plain.size());
    if (EVP_EncryptFinal_ex(context.get(), tag, &bytes) != 1 ||
        EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, static_cast<int>(kTag), tag) !=
            1) {
      return Failed();
    }
    return {};
  }

  Result<void> Open(const ContextSalt& salt, const ContextNonce& nonce,
                    std::span<const std::byte> header, std::span<const std::byte> sealed,
                    std::span<std::byte> plain) const override {
    LODE_CHECK(sealed.size() == plain.size() + kTag);
    const auto context = Start(salt, nonce, header, /*encrypt=*/false);
    if (context == nullptr) return Failed();
    int bytes = 0;
    for (size_t at = 0; at < plain.size(); at += kPieceBytes) {
      const int piece = static_cast<int>(std::min(kPieceBytes, plain.size() - at));
      if (EVP_DecryptUpdate(context.get(), Out(plain.data() + at), &bytes, In(sealed.data() + at),
                            piece) != 1) {
        return Failed();
      }
    }
    return End(context.get(), sealed.last(kTag));
  }

  Result<void> OpenInPieces(
      const ContextSalt& salt, const ContextNonce& nonce, std::span<const std::byte> header,
      std::span<const std::byte> sealed,
      FunctionRef<Result<void>(std::span<const std::byte> piece)> take) const override {
    LODE_CHECK(sealed.size() >= kTag);
    const auto context = Start(salt, nonce, header, /*encrypt=*/false);
    if (context == nullptr) return Failed();
    std::vector<std::byte> plain(kOpenedBytes);
    const std::span<const std::byte> rest = sealed.first(sealed.size() - kTag);
    for (size_t at = 0; at < rest.size(); at += kOpenedBytes) {
      const auto piece = rest.subspan(at, std::min(kOpenedBytes, rest.size() - at));
      int bytes = 0;
      if (EVP_DecryptUpdate(context.get(), Out(plain.data()), &bytes, In(piece.data()),
                            static_cast<int>(piece.size())) != 1) {
        return Failed();
      }
      LODE_TRY(take(std::span<const std::byte>(plain).first(piece.size())));
    }
    return End(context.get(), sealed.last(kTag));
  }

 private:
  using Context = std::unique_ptr<EVP_CIPHER_CTX, CipherDeleter>;

  // Whether the tag is that of what was decrypted.
  static Result<void> End(EVP_CIPHER_CTX* context, std::span<const std::byte> expected) {
    std::array<unsigned char, kTag> tag, rest;
    std::copy_n(In(expected.data()), kTag, tag.begin());
    int bytes = 0;
    if (EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, static_cast<int>(kTag), tag.data()) !=
            1 ||
        EVP_DecryptFinal_ex(context, rest.data(), &bytes) != 1) {
      return Error(Code::kBadInput, "it is not what was sealed with this key");
    }
    return {};
  }

  static Error Failed() { return Error(Code::kInternal, "the encryption library failed"); }

  Context Start(const ContextSalt& salt, const ContextNonce& nonce,
                std::span<const std::byte> header, bool encrypt) const {
    Context context(EVP_CIPHER_CTX_new());
    if (context == nullptr) return nullptr;
    Key key = Derive(key_, "lode.seal.file", salt);
    const bool started = EVP_CipherInit_ex2(context.get(), EVP_aes_256_gcm(), In(key.data()),
                                            In(nonce.data()), encrypt ? 1 : 0, nullptr) == 1;
    OPENSSL_cleanse(key.data(), key.size());
    int bytes = 0;
    if (!started || EVP_CipherUpdate(context.get(), nullptr, &bytes, In(header.data()),
                                     static_cast<int>(header.size())) != 1) {
      return nullptr;
    }
    return context;
  }

  Key key_;
  ContextDigest key_id_;
};

}  // namespace

std::unique_ptr<Sealer> MakeAesGcmSealer(const std::array<std::byte, 32>& key) {
  return std::make_unique<AesGcmSealer>(key);
}

}  // namespace lode::runtime
