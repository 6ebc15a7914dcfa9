"""What an HTML page is put together from: elements that escape by themselves, blocks, and charts as inline SVG."""
