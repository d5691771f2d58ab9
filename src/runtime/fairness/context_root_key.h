// What keeps caches apart: the key of a root of the prefix tree.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace lode::runtime {

// HMAC-SHA256 with a tenant's secret over (salt, model, numerics), each with its length, cut to 16
// bytes. Nobody without the secret can tell which salt a key belongs to, or find another's.
std::array<std::byte, 16> DeriveRootKey(std::span<const std::byte> secret, std::string_view salt,
                                        std::string_view model, std::string_view numerics);

// A secret for a tenant that was given none: of this process, from the system's randomness.
std::string RandomSecret();

}  // namespace lode::runtime
