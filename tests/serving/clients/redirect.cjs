// Loaded in front of a program (node --require): its axios then reaches the server named in MODERATION_URL.
const axios = require("axios");

axios.interceptors.request.use((request) => {
  request.url = request.url.replace("https://commentanalyzer.googleapis.com", process.env.MODERATION_URL);
  return request;
});
