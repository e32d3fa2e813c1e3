#include "runtime/trace/trace_file.hpp"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>

#include <boost/test/unit_test.hpp>

namespace varve {

using namespace std::chrono_literals;

namespace {

struct trace_fixture {
  trace_fixture() {
    char name[] = "/tmp/varve-trace-XXXXXX";
    folder = ::mkdtemp(name);
    path = folder + "/t.trace";
  }
  ~trace_fixture() { std::filesystem::remove_all(folder); }

  std::vector<trace_record> read(uint64_t* torn = nullptr) const {
    trace_reader reader;
    BOOST_REQUIRE_EQUAL(reader.open(path), "");
    std::vector<trace_record> all;
    while (reader.next(all))
      ;
    if (torn)
      *torn = reader.torn_bytes();
    return all;
  }

  void write(const std::vector<trace_record>& records) const {
    trace_writer writer;
    BOOST_REQUIRE_EQUAL(writer.open(path, {"vm1", 20ull << 30, 7}), "");
    BOOST_REQUIRE_EQUAL(writer.write(records, 0), "");
    BOOST_REQUIRE_EQUAL(writer.sync(), "");
  }

  std::string folder, path;
};

std::vector<trace_record> made_up(uint64_t seed, size_t count) {
  std::mt19937_64 random{seed};
  std::vector<trace_record> all;
  std::chrono::microseconds at{0};
  uint64_t end = 0;
  for (size_t i = 0; i < count; ++i) {
    trace_record x;
    at += std::chrono::microseconds{random() % 5000};
    x.at = at;
    x.op = static_cast<block_op>(random() % 6);
    if (x.op != block_op::flush) {
      x.length = random() % 4 == 0 ? static_cast<uint32_t>(random()) : 4096u * static_cast<uint32_t>(random() % 64);
      x.offset = random() % 3 == 0   ? end
                 : random() % 2 == 0 ? random() % (64ull << 40)
                                     : 512 * (random() % (1ull << 30));
      end = x.offset + x.length;
    }
    all.push_back(x);
  }
  return all;
}

} // namespace

BOOST_FIXTURE_TEST_CASE(what_is_written_is_read, trace_fixture) {
  const auto records = made_up(1, 50'000);
  write(records);
  uint64_t torn = 1;
  BOOST_TEST((read(&torn) == records));
  BOOST_TEST(torn == 0u);
  trace_reader reader;
  BOOST_REQUIRE_EQUAL(reader.open(path), "");
  BOOST_TEST(reader.header().volume == "vm1");
  BOOST_TEST(reader.header().volume_bytes == 20ull << 30);
  BOOST_TEST(reader.header().created_at == 7u);
}

BOOST_FIXTURE_TEST_CASE(extreme_places_and_lengths_survive, trace_fixture) {
  std::vector<trace_record> records{
    {0us, block_op::read, 0, 0},
    {0us, block_op::write, UINT64_MAX, 1},
    {1us, block_op::read, 1, UINT32_MAX},
    {std::chrono::microseconds{INT64_MAX}, block_op::trim, 3, 512},
  };
  write(records);
  BOOST_TEST((read() == records));
}

BOOST_FIXTURE_TEST_CASE(sequential_requests_take_a_few_bytes_each, trace_fixture) {
  std::vector<trace_record> records;
  for (uint64_t i = 0; i < 10'000; ++i)
    records.push_back({std::chrono::microseconds{100 * i}, block_op::read, i * 4096, 4096});
  write(records);
  BOOST_TEST(std::filesystem::file_size(path) < 10'000 * 2.1);
}

BOOST_FIXTURE_TEST_CASE(a_torn_tail_is_cut_wherever_it_was_torn, trace_fixture) {
  const auto records = made_up(2, 300);
  write(records);
  const auto whole = std::filesystem::file_size(path);
  write(made_up(3, 40));
  const auto full = std::filesystem::file_size(path);
  for (auto size = full - 1; size > whole; --size) {
    std::filesystem::resize_file(path, size);
    uint64_t torn = 0;
    BOOST_REQUIRE((read(&torn) == records));
    BOOST_REQUIRE(torn == size - whole);
  }
  // The next recording goes on after the last whole block.
  std::filesystem::resize_file(path, whole + 10);
  trace_writer writer;
  BOOST_REQUIRE_EQUAL(writer.open(path, {"vm1", 20ull << 30, 9}), "");
  BOOST_TEST(writer.cut_bytes() == 10u);
  BOOST_REQUIRE_EQUAL(writer.write({{5us, block_op::flush, 0, 0}}, 0), "");
  const auto all = read();
  BOOST_REQUIRE(all.size() == records.size() + 1);
  BOOST_TEST((all.back().at == records.back().at + 5us));
}

BOOST_FIXTURE_TEST_CASE(a_flipped_bit_ends_the_trace_there_and_never_crashes, trace_fixture) {
  const auto records = made_up(4, 200);
  write(records);
  const auto size = std::filesystem::file_size(path);
  for (uint64_t at = trace_format::header_bytes; at < size; ++at) {
    std::fstream f{path, std::ios::in | std::ios::out | std::ios::binary};
    f.seekg(static_cast<std::streamoff>(at));
    const char was = static_cast<char>(f.get());
    f.seekp(static_cast<std::streamoff>(at));
    f.put(static_cast<char>(was ^ (1 << at % 8)));
    f.flush();
    uint64_t torn = 0;
    BOOST_REQUIRE(read(&torn).empty());
    BOOST_REQUIRE(torn == size - trace_format::header_bytes);
    f.seekp(static_cast<std::streamoff>(at));
    f.put(was);
  }
}

BOOST_FIXTURE_TEST_CASE(what_is_no_trace_is_refused, trace_fixture) {
  trace_reader reader;
  BOOST_TEST(reader.open(path).find("No such file") != std::string::npos);
  BOOST_TEST(reader.open("/tmp").find("not a file") != std::string::npos);
  std::ofstream{path} << "hello";
  BOOST_TEST(reader.open(path) == path + ": it is not a trace");
  trace_writer writer;
  BOOST_TEST(writer.open(path, {"vm1", 1, 1}) == path + ": it is not a trace");
  std::ifstream in{path};
  BOOST_TEST(std::string(std::istreambuf_iterator<char>{in}, {}) == "hello");
}

BOOST_FIXTURE_TEST_CASE(a_newer_version_or_another_volume_is_refused, trace_fixture) {
  write(made_up(5, 3));
  trace_writer other;
  BOOST_TEST(other.open(path, {"vm2", 1, 1}) == path + ": it is a trace of volume vm1");
  auto header = trace_format::encode_header({"vm1", 1, 1});
  header[8] = std::byte{2};
  trace_header x;
  BOOST_TEST(trace_format::decode_header(header, x) == "its header does not match its checksum");
}

BOOST_FIXTURE_TEST_CASE(a_summary_counts_operations_and_lost_ones, trace_fixture) {
  trace_writer writer;
  BOOST_REQUIRE_EQUAL(writer.open(path, {"vm1", 1 << 30, 1}), "");
  BOOST_REQUIRE_EQUAL(writer.write({{1us, block_op::read, 0, 4096}, {3us, block_op::write, 8192, 512}}, 5), "");
  BOOST_REQUIRE_EQUAL(writer.write({}, 2), "");
  trace_summary x;
  BOOST_REQUIRE_EQUAL(summarize(path, x), "");
  BOOST_TEST(x.records == 2u);
  BOOST_TEST(x.dropped == 7u);
  BOOST_TEST(x.operations[0] == 1u);
  BOOST_TEST(x.bytes[1] == 512u);
  BOOST_TEST(x.end == 8704u);
  BOOST_TEST((x.duration == 3us));
}

} // namespace varve
