#include "hub/http.h"

#include <gtest/gtest.h>

namespace lode::hub {
namespace {

TEST(Http, NamesOriginsWithTheirPorts) {
  EXPECT_EQ(OriginOf("https://Hub.example/a?b"), "https://hub.example:443");
  EXPECT_EQ(OriginOf("http://hub.example:8080"), "http://hub.example:8080");
  EXPECT_EQ(OriginOf("ftp://hub.example"), "");
  EXPECT_EQ(OriginOf("hub"), "");
  EXPECT_NE(OriginOf("http://127.0.0.1:1"), OriginOf("http://127.0.0.1:2"));
  EXPECT_NE(OriginOf("http://hub.example"), OriginOf("https://hub.example"));
}

TEST(Http, LetsTokensTravelOnlyEncryptedOrAtHome) {
  EXPECT_TRUE(TokenMayTravel("https://hub.example"));
  EXPECT_TRUE(TokenMayTravel("http://127.0.0.1:5000/x"));
  EXPECT_TRUE(TokenMayTravel("http://localhost"));
  EXPECT_TRUE(TokenMayTravel("http://[::1]:80"));
  EXPECT_FALSE(TokenMayTravel("http://hub.example"));
  EXPECT_FALSE(TokenMayTravel("http://127.0.0.1.example"));
  EXPECT_FALSE(TokenMayTravel("http://127.example.com"));
  EXPECT_FALSE(TokenMayTravel("http://localhost.example"));
}

TEST(Http, EscapesPaths) {
  EXPECT_EQ(UrlEscape("a b/c?d#e%é", true), "a%20b/c%3Fd%23e%25%C3%A9");
  EXPECT_EQ(UrlEscape("refs/pr/1"), "refs%2Fpr%2F1");
}

TEST(Http, KeepsSignaturesOutOfMessages) {
  EXPECT_EQ(UrlForPeople("https://user:pass@cdn.example/a/b?signature=secret#x"),
            "cdn.example/a/b");
  EXPECT_EQ(UrlForPeople("http://127.0.0.1:8080/a"), "127.0.0.1:8080/a");
}

}  // namespace
}  // namespace lode::hub
