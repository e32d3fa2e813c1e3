#define BOOST_TEST_MODULE data_plane
#include <boost/test/unit_test.hpp>
