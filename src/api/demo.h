// The demo model's files, embedded in the program by demo.S.
#pragma once

#include <map>
#include <span>
#include <string>

namespace lode::api {

std::map<std::string, std::span<const std::byte>> DemoFiles();

}  // namespace lode::api
