package exchange

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/transcript"
)

// Exports as the programs write them, and what each of their turns has.
var samples = map[string]struct {
	elements []string
	several  bool
	turns    [][]string
}{
	"messages": {[]string{`[{"role":"developer","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"What is"},{"type":"text","text":" this?"},{"type":"image_url","image_url":{"url":"https://example.com/a.png","detail":"low"}}]},
		{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"see","arguments":"{\"n\": 1}"}}]},
		{"role":"tool","tool_call_id":"c1","content":"a cat"},{"role":"assistant","content":"A cat.","annotations":[{"a":1}]},{"role":"user","content":"Thanks"}]`}, false, [][]string{
		{`"session_id":"file"`, `"user":"What is\n\n this?"`, `"assistant":"A cat."`, `"arguments":"{\"n\": 1}"`, `"result":"a cat"`, `"attachments":[{"uri":"https://example.com/a.png"}]`, `"system":"Be brief."`,
			`"role":"developer"`, `"annotations":[{"a":1}]`, `"detail":"low"`, `"timestamp":"2023-11-14T22:13:20.000001+00:00"`, `"status":"complete"`},
		{`"user":"Thanks"`, `"assistant":""`, `"status":"pending"`, `"timestamp":"2023-11-14T22:13:20.000006+00:00"`},
	}},
	"messages one a line": {[]string{`{"role":"assistant","content":"Welcome"}`, `{"role":"user","content":"a"}`, `{"role":"user","content":"b"}`, `{"role":"assistant","content":"c"}`, `{"role":"assistant","content":"d"}`}, true, [][]string{
		{`"user":""`, `"assistant":"Welcome"`, `"status":"complete"`}, {`"user":"a"`, `"assistant":""`, `"status":"pending"`}, {`"user":"b"`, `"assistant":"c\n\nd"`, `"messages":[{"role":"user","texts":[1]},{"role":"assistant","texts":[1]},{"role":"assistant","texts":[1]}]`},
	}},
	"messages of conversations": {[]string{`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}`, `{"id":"own","messages":[{"role":"user","content":"c","timestamp":1700000100},{"role":"assistant","content":"d","timestamp":"2023-11-14T22:15:03Z"}],"title":"t"}`}, true, [][]string{
		{`"session_id":"file-1"`, `"user":"a"`, `"timestamp":"2023-11-14T22:13:20.000001+00:00"`}, {`"session_id":"own"`, `"timestamp":"2023-11-14T22:15:00.000000+00:00"`, `"completed_at":"2023-11-14T22:15:03.000000+00:00"`, `"conversation":{"title":"t"}`},
	}},
	"request and response": {[]string{`{"request":{"model":"m-1","messages":[{"role":"user","content":"a"}],"temperature":0.5},"response":{"id":"r","model":"m-1x","created":1700000000,"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"b"}}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}}`}, true, [][]string{
		{`"user":"a"`, `"assistant":"b"`, `"model":"m-1x"`, `"finish_reason":"stop"`, `"usage":{"input_tokens":3,"output_tokens":4}`, `"temperature":0.5`},
	}},
	"Anthropic messages": {[]string{`{"system":"S","messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"tool_use","id":"t1","name":"f","input":{"x":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"ok"}]},{"role":"assistant","content":[{"type":"text","text":"done"}]}]}`}, false, [][]string{
		{`"user":"a"`, `"assistant":"done"`, `"tool_calls":[{"id":"t1","name":"f","arguments":{"x":1},"result":"ok"}]`, `"thinking":"hm"`, `"system":"S"`},
	}},
	"chatgpt": {[]string{`{"title":"Cats","create_time":1700000000.5,"conversation_id":"g1","current_node":"e","default_model_slug":"gpt-x","mapping":{
		"root":{"id":"root","message":null,"parent":null,"children":["s"]},
		"s":{"id":"s","message":{"id":"s","author":{"role":"system"},"create_time":null,"content":{"content_type":"text","parts":[""]}},"parent":"root","children":["u1"]},
		"u1":{"id":"u1","message":{"id":"u1","author":{"role":"user"},"create_time":1700000001.25,"content":{"content_type":"multimodal_text","parts":[{"content_type":"image_asset_pointer","asset_pointer":"file-service://x","size_bytes":7,"width":1},"What?"]},"metadata":{}},"parent":"s","children":["a1","a2","a3"]},
		"a1":{"id":"a1","message":{"id":"a1","author":{"role":"assistant"},"create_time":1700000002,"content":{"content_type":"text","parts":["A dog."]},"metadata":{"model_slug":"gpt-x"},"recipient":"all"},"parent":"u1","children":["u2"]},
		"u2":{"id":"u2","message":{"id":"u2","author":{"role":"user"},"create_time":1700000003,"content":{"content_type":"text","parts":["No."]}},"parent":"a1","children":[]},
		"a2":{"id":"a2","message":{"id":"a2","author":{"role":"assistant"},"create_time":1700000004,"content":{"content_type":"text","parts":["A cat."]},"metadata":{"model_slug":"gpt-x","finish_details":{"type":"stop"}},"recipient":"all"},"parent":"u1","children":["e"]},
		"e":{"id":"e","message":null,"parent":"a2","children":[]},
		"a3":{"id":"a3","message":{"id":"a3","author":{"role":"assistant"},"create_time":1700000005,"content":{"content_type":"thoughts","thoughts":[{"summary":"s","content":"hmm"}]}},"parent":"u1","children":["a4"]},
		"a4":{"id":"a4","message":{"id":"a4","author":{"role":"assistant"},"create_time":1700000006,"content":{"content_type":"code","language":"python","text":"1+1"},"recipient":"python"},"parent":"a3","children":["t4"]},
		"t4":{"id":"t4","message":{"id":"t4","author":{"role":"tool","name":"python"},"create_time":1700000007,"content":{"content_type":"execution_output","text":"2"}},"parent":"a4","children":["a5"]},
		"a5":{"id":"a5","message":{"id":"a5","author":{"role":"assistant"},"create_time":1700000008,"content":{"content_type":"text","parts":["Two."]}},"parent":"t4","children":[]}}}`}, true, [][]string{
		{`"session_id":"g1"`, `"id":"u1"`, `"timestamp":"2023-11-14T22:13:21.250000+00:00"`, `"user":"What?"`, `"assistant":"A dog."`, `"parent":""`, `"model":"gpt-x"`, `"attachments":[{"uri":"file-service://x","size":7}]`, `"title":"Cats"`, `"completed_at":"2023-11-14T22:13:22.000000+00:00"`},
		{`"id":"u2"`, `"user":"No."`, `"status":"pending"`, `"parent":"u1"`},
		{`"id":"a2"`, `"user":"What?"`, `"assistant":"A cat."`, `"supersedes":"u1"`, `"parent":""`, `"finish_reason":"stop"`, `"timestamp":"2023-11-14T22:13:25.000001+00:00"`}, // the active one is the newest
		{`"id":"a5"`, `"user":"What?"`, `"assistant":"Two."`, `"supersedes":"a2"`, `"tool_calls":[{"name":"python","arguments":"1+1","result":"2"}]`, `"content":"hmm"`, `"language":"python"`},
	}},
	"claude": {[]string{`{"uuid":"k1","name":"Talk","created_at":"2023-11-14T22:13:20.000000Z","updated_at":"2023-11-14T22:14:20.000000Z","account":{"uuid":"x"},"chat_messages":[
		{"uuid":"h1","text":"Read this","content":[{"type":"text","text":"Read this","citations":[]}],"sender":"human","created_at":"2023-11-14T22:13:21.000001Z","updated_at":"2023-11-14T22:13:21.000001Z","attachments":[{"file_name":"a.txt","file_size":3,"file_type":"txt","extracted_content":"abc"}],"files":[{"file_name":"a.txt"}]},
		{"uuid":"r1","text":"Fine.","content":[{"type":"thinking","thinking":"hm"},{"type":"tool_use","id":"t1","name":"f","input":{"q":"x"}},{"type":"tool_result","tool_use_id":"t1","name":"f","content":[{"type":"text","text":"found"}]},{"type":"text","text":"Fine."}],"sender":"assistant","created_at":"2023-11-14T22:13:25.000000Z","attachments":[],"files":[]},
		{"uuid":"h2","text":"Old","sender":"human","created_at":"2023-11-14T22:13:26Z"}]}`}, true, [][]string{
		{`"session_id":"k1"`, `{"id":"h1"`, `"user":"Read this"`, `"assistant":"Fine."`, `"timestamp":"2023-11-14T22:13:21.000001+00:00"`, `"uri":"a.txt","media_type":"txt","size":3`, `"extracted_content":"abc"`, `"thinking":"hm"`, `"arguments":{"q":"x"},"result":"found"`, `"name":"Talk"`},
		{`{"id":"h2"`, `"user":"Old"`, `"status":"pending"`},
	}},
	"langchain": {[]string{`[{"type":"system","data":{"content":"S","additional_kwargs":{}}},{"type":"human","data":{"content":"a","additional_kwargs":{},"type":"human","name":null,"id":null,"example":false}},
		{"type":"ai","data":{"content":"","additional_kwargs":{"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"q\": 1}"}}]},"tool_calls":[{"name":"f","args":{"q":1},"id":"c1","type":"tool_call"}],"invalid_tool_calls":[],"response_metadata":{"model_name":"m","finish_reason":"tool_calls"},"usage_metadata":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}},
		{"type":"tool","data":{"content":"r","tool_call_id":"c1","status":"success"}},{"type":"ai","data":{"content":[{"type":"text","text":"b"}]}}]`}, false, [][]string{
		{`"user":"a"`, `"assistant":"b"`, `"system":"S"`, `"tool_calls":[{"id":"c1","name":"f","arguments":"{\"q\": 1}","result":"r"}]`, `"model":"m"`, `"usage":{"input_tokens":1,"output_tokens":2}`},
	}},
	"langchain constructors": {[]string{`{"lc":1,"type":"constructor","id":["langchain","schema","messages","HumanMessage"],"kwargs":{"content":"a","type":"human"}}`, `{"lc":1,"type":"constructor","id":["langchain","schema","messages","AIMessage"],"kwargs":{"content":"b","tool_calls":[{"name":"f","args":{"q":1},"id":"c1"}]}}`, `{"type":"human","content":"c"}`, `{"type":"ai","content":"d"}`}, true, [][]string{
		{`"user":"a"`, `"assistant":"b"`, `"arguments":{"q":1}`}, {`"user":"c"`, `"assistant":"d"`},
	}},
	"sharegpt": {[]string{`{"id":"x1","conversations":[{"from":"system","value":"S"},{"from":"human","value":"a"},{"from":"function_call","value":"{\"name\": \"f\", \"arguments\": {\"q\": 1}}"},{"from":"observation","value":"r"},{"from":"gpt","value":"b","weight":1}]}`, `{"conversations":[{"from":"user","value":" c "},{"from":"chatgpt","value":"d"}]}`}, true, [][]string{
		{`"session_id":"x1"`, `"user":"a"`, `"assistant":"b"`, `"name":"f"`, `"result":"r"`, `"verbatim":"{\"name\": \"f\", \"arguments\": {\"q\": 1}}"`, `"weight":1`}, {`"session_id":"file-2"`, `"user":" c "`, `"assistant":"d"`},
	}},
	"an answer of Anthropic's API": {[]string{`{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":4,"cache_read_input_tokens":0}}`}, false, [][]string{
		{`"user":""`, `"assistant":"a"`, `"model":"m"`, `"finish_reason":"end_turn"`, `"usage":{"input_tokens":3,"output_tokens":4}`, `"cache_read_input_tokens":0`},
	}},
	"choices in another order": {[]string{`{"messages":[{"role":"user","content":"a"}],"choices":[{"index":1,"message":{"role":"assistant","content":"c"}},{"index":0,"finish_reason":"length","message":{"role":"assistant","content":"b"}}]}`}, false, [][]string{
		{`"user":"a"`, `"assistant":"b"`, `"status":"partial"`, `{"choice":{"index":1,`},
	}},
	"requests that failed": {[]string{`{"request":{"messages":[{"role":"user","content":"a"}]},"response":{"status_code":500,"body":{"error":{"message":"m"}}}}`, `{"object":"response","status":"failed","model":"x","error":{"code":"c"},"input":"b","output":[]}`, `{"messages":[{"role":"user","content":"d"},{"role":"assistant","content":"e"}],"error":{"m":1}}`, `{"object":"response","status":"in_progress","input":"c","output":[]}`}, true, [][]string{
		{`"user":"a"`, `"assistant":""`, `"status":"failed"`, `"error":{"message":"m"}`}, {`"user":"b"`, `"status":"failed"`, `"model":"x"`, `"error":{"code":"c"}`}, {`"user":"d"`, `"status":"complete"`}, {`"user":"c"`, `"status":"pending"`},
	}},
	"several choices": {[]string{`{"messages":[{"role":"user","content":"a"}],"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"b"}},{"index":1,"message":{"role":"assistant","content":"c"}}]}`}, false, [][]string{
		{`"user":"a"`, `"assistant":"b"`, `"model":"m"`, `{"choice":{"index":1,"message":{"role":"assistant","content":"c"}}}`},
	}},
	"files and sounds": {[]string{`[{"role":"user","content":[{"type":"text","text":"a"},{"type":"file","file":{"file_id":"f1","filename":"x.pdf"}},{"type":"input_audio","input_audio":{"data":"AAAA","format":"mp3"}},
		{"type":"image","source":{"type":"base64","media_type":"image/png","data":"BBBB"}},{"type":"image","source":{"type":"url","url":"https://example.com/c.png"}}]},{"role":"assistant","content":null,"refusal":"No."}]`}, false, [][]string{
		{`"user":"a"`, `"assistant":"No."`, `"attachments":[{"uri":"f1"},{"uri":"data:audio/mp3;base64,AAAA","media_type":"audio/mp3"},{"uri":"data:image/png;base64,BBBB","media_type":"image/png"},{"uri":"https://example.com/c.png"}]`, `"filename":"x.pdf"`},
	}},
	"what says nothing": {[]string{`[{"role":"user","content":""},{"role":"assistant","content":""},{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":[]}]`, `{"messages":[]}`, `{"uuid":"k9","chat_messages":[]}`, `{"id":"g9","mapping":{"r":{"message":null}}}`}, true, [][]string{
		{`"user":"a"`, `"assistant":"b"`},
	}},
	"lists of conversations": {[]string{`{"account":{},"conversations":[{"id":"one","messages":[{"role":"user","content":"a"}]},{"uuid":"two","chat_messages":[{"sender":"human","text":"b"}]}]}`, `[{"id":"three","messages":[{"role":"user","content":"c"}]}]`}, true, [][]string{
		{`"session_id":"one"`, `"user":"a"`}, {`"session_id":"two"`, `"user":"b"`}, {`"session_id":"three"`, `"user":"c"`},
	}},
	"lists with something else in them": {[]string{`{"data":["x",{"foo":1},{"id":"one","messages":[{"role":"user","content":"a"}]},7,{"messages":"x"},{"id":"two","chat_messages":[{"sender":"human","text":"b"}]}]}`, `{"conversations":[null,[{"role":"user","content":"c"}],{"mesages":[]},{"id":"four","messages":[{"role":"user","content":"d"}]}]}`}, true, [][]string{
		{`"session_id":"one"`}, {`"session_id":"two"`}, {`"session_id":"file-2-2"`, `"user":"c"`}, {`"session_id":"four"`},
	}},
	"chatgpt: contexts, edits and what says nothing": {[]string{`{"id":"g2","create_time":1700000000,"update_time":null,"current_node":"a2","mapping":{
		"c":{"message":{"author":{"role":"user"},"create_time":null,"content":{"content_type":"user_editable_context","user_profile":"I am A."},"metadata":{"is_user_system_message":true}},"parent":null},
		"u1":{"message":{"author":{"role":"user"},"create_time":1700000001,"content":{"content_type":"text","parts":["first",null]}},"parent":"c"},
		"a1":{"message":{"author":{"role":"assistant"},"create_time":1700000002,"content":{"content_type":"text","parts":["one"]},"status":"finished_partial_completion"},"parent":"u1"},
		"u2":{"message":{"author":{"role":"user"},"create_time":1700000003,"content":{"content_type":"text","parts":["second"]}},"parent":"c"},
		"e1":{"message":{"author":{"role":"assistant"},"create_time":1700000004,"content":{"content_type":"text","parts":["two"]}},"parent":"u2"},
		"e2":{"message":{"author":{"role":"user"},"create_time":1700000005,"content":{"content_type":"text","parts":[""]}},"parent":"e1"},
		"e3":{"message":{"author":{"role":"assistant"},"create_time":1700000006,"content":{"content_type":"text","parts":[""]}},"parent":"e2"},
		"u3":{"message":{"author":{"role":"user"},"create_time":1700000007,"content":{"content_type":"text","parts":["third"]}},"parent":"e3"},
		"a2":{"message":{"author":{"role":"assistant"},"create_time":1700000008,"content":{"content_type":"text","parts":["three"]}},"parent":"u3"}}}`}, true, [][]string{
		{`{"id":"u1"`, `"user":"first"`, `"assistant":"one"`, `"status":"partial"`, `"parent":""`, `"user_profile":"I am A."`, `"2023-11-14T22:13:21.000000+00:00"`},
		{`{"id":"u2"`, `"user":"second"`, `"assistant":"two"`, `"parent":""`, `"2023-11-14T22:13:23.000000+00:00"`},
		{`{"id":"u3"`, `"user":"third"`, `"assistant":"three"`, `"parent":"u2"`},
	}},
	"chatgpt: files, sounds, pages and what is hidden": {[]string{`{"id":"g3","create_time":1700000000,"mapping":{
		"u1":{"id":"u1","message":{"id":"m1","author":{"role":"user"},"create_time":1700000001,"weight":0.0,"content":{"content_type":"multimodal_text","parts":[{"content_type":"image_asset_pointer","asset_pointer":"file-service://file-a"},
			{"content_type":"real_time_user_audio_video_asset_pointer","audio_asset_pointer":{"content_type":"audio_asset_pointer","asset_pointer":"sediment://s","size_bytes":5}},{"content_type":"audio_transcription","text":"read","direction":"in"}]},
			"metadata":{"attachments":[{"id":"file-a","name":"a.png","size":7},{"id":"file-b","name":"b.pdf","size":9,"mime_type":"application/pdf"}]}},"parent":null},
		"a1":{"id":"a1","message":{"author":{"role":"assistant"},"create_time":1700000002,"content":{"content_type":"code","text":"go"},"recipient":"browser"},"parent":"u1"},
		"t1":{"id":"t1","message":{"author":{"role":"tool","name":"browser"},"create_time":1700000003,"content":{"content_type":"tether_browsing_display","result":"# page"}},"parent":"a1"},
		"t2":{"id":"t2","message":{"author":{"role":"tool","name":"browser"},"create_time":1700000004,"content":{"content_type":"tether_quote","url":"https://example.com","text":"quoted"}},"parent":"t1"},
		"t3":{"id":"t3","message":{"author":{"role":"tool","name":"draw"},"create_time":1700000005,"content":{"content_type":"multimodal_text","parts":[{"content_type":"image_asset_pointer","asset_pointer":"sediment://i"}]}},"parent":"t2"},
		"a2":{"id":"a2","message":{"author":{"role":"assistant"},"create_time":1700000006,"end_turn":true,"weight":1.0,"content":{"content_type":"text","parts":["done"]}},"parent":"t3"}}}`}, true, [][]string{
		{`{"id":"u1"`, `"user":"read"`, `"assistant":"done"`, `"attachments":[{"uri":"file-service://file-a"},{"uri":"sediment://s","size":5},{"uri":"file-b","media_type":"application/pdf","size":9},{"uri":"sediment://i"}]`, `"weight":0.0`, `"id":"m1"`, `"name":"b.pdf"`, `"name":"a.png"`, `"create_time":1700000000}`,
			`"tool_calls":[{"name":"browser","arguments":"go","result":"# page"},{"name":"browser","result":"quoted"},{"name":"draw","result":""}]`, `"url":"https://example.com"`, `"timestamp":"2023-11-14T22:13:21.000000+00:00"`},
	}},
	"claude: a model, a reason and no time": {[]string{`{"uuid":"k2","created_at":"2023-11-14T22:13:20Z","model":"m","chat_messages":[{"uuid":"h1","sender":"human","text":"a","created_at":0},{"uuid":"r1","sender":"assistant","text":"b","stop_reason":"max_tokens","created_at":""}]}`}, true, [][]string{
		{`{"id":"h1"`, `"model":"m"`, `"finish_reason":"max_tokens"`, `"status":"partial"`, `"timestamp":"2023-11-14T22:13:20.000000+00:00"`},
	}},
	"lines of batches": {[]string{`{"custom_id":"r1","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[{"role":"user","content":"a"}]}}`,
		`{"id":"b1","custom_id":"r1","response":{"status_code":200,"request_id":"q","body":{"id":"c1","created":1711652795,"object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"b"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}},"error":null}`,
		`{"custom_id":"r2","url":"/v1/responses","body":{"model":"m","input":"c"}}`, `{"id":"b2","custom_id":"r2","response":{"status_code":200,"body":{"id":"resp_1","object":"response","model":"m","output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"d"}]}]}}}`}, true, [][]string{
		{`"session_id":"file-1"`, `"user":"a"`, `"custom_id":"r1"`}, {`"session_id":"b1"`, `"assistant":"b"`, `"model":"m"`, `"usage":{"input_tokens":1,"output_tokens":2}`, `"finish_reason":"stop"`, `"status_code":200`, `"id":"c1"`, `"timestamp":"2024-03-28T19:06:35.000000+00:00"`},
		{`"session_id":"file-3"`, `"user":"c"`}, {`"session_id":"b2"`, `"assistant":"d"`, `"model":"m"`, `"id":"resp_1"`},
	}},
	"Anthropic's own tools": {[]string{`{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"video_url","video_url":{"url":"https://example.com/v"}}]},{"role":"assistant","content":[{"type":"server_tool_use","id":"s1","name":"web_search","input":{"query":"q"}},{"type":"web_search_tool_result","tool_use_id":"s1","content":[{"type":"web_search_result","url":"u"}]},{"type":"text","text":"b"}]}]}`}, false, [][]string{
		{`"assistant":"b"`, `"attachments":[{"uri":"https://example.com/v"}]`, `"tool_calls":[{"id":"s1","name":"web_search","arguments":{"query":"q"},"result":[{"type":"web_search_result","url":"u"}]}]`, `"type":"server_tool_use"`, `"type":"web_search_tool_result"`},
	}},
	"an answer that was spoken": {[]string{`[{"role":"user","content":"a"},{"role":"assistant","content":null,"audio":{"id":"au","transcript":" said ","data":"AAAA"}},{"role":"tool","name":"f","tool_call_id":"c9","content":"r"}]`}, false, [][]string{
		{`"user":"a"`, `"assistant":" said "`, `"data":"AAAA"`, `"tool_calls":[{"id":"c9","name":"f","result":"r"}]`},
	}},
	"langchain: calls in the content, too": {[]string{`[{"type":"human","content":"a"},{"type":"ai","content":[{"type":"text","text":"b"},{"type":"tool_call","id":"c1","name":"f","args":{"x":1}},{"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},{"type":"tool_use","id":"c2","name":"g","input":{}}],"tool_calls":[{"id":"c1","name":"f","args":{"x":1}}]}]`}, false, [][]string{
		{`"user":"a"`, `"assistant":"b"`, `"tool_calls":[{"id":"c2","name":"g","arguments":{}},{"id":"c1","name":"f","arguments":{"x":1}}]`},
	}},
	"responses: items that have their results": {[]string{`{"id":"resp_3","input":"a","output":[{"type":"file_search_call","id":"c1","queries":["q"],"results":[{"text":"found"}]},{"type":"code_interpreter_call","id":"c2","code":"1","outputs":[{"type":"logs","logs":"1"}]},{"type":"mcp_call","id":"c3","name":"f","arguments":"{}","output":"o"},
		{"type":"image_generation_call","id":"c4","output_format":"webp","result":"AAAA"}]}`}, false, [][]string{
		{`"tool_calls":[{"id":"c1","name":"file_search_call","arguments":["q"],"result":[{"text":"found"}]},{"id":"c2","name":"code_interpreter_call","arguments":"1","result":[{"type":"logs","logs":"1"}]},{"id":"c3","name":"f","arguments":"{}","result":"o"},{"id":"c4","name":"image_generation_call","output_format":"webp"}]`,
			`"attachments":[{"uri":"data:image/webp;base64,AAAA","media_type":"image/webp"}]`},
	}},
	"langchain chat messages": {[]string{`[{"type":"chat","data":{"content":"a","role":"user","type":"chat"}},{"type":"AIMessageChunk","data":{"content":"b","type":"AIMessageChunk","tool_call_chunks":[]}}]`}, false, [][]string{
		{`"user":"a"`, `"assistant":"b"`},
	}},
	"responses: a text, cut off": {[]string{`{"id":"resp_2","object":"response","created_at":1700000000,"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"model":"m","instructions":[{"type":"message","role":"developer","content":[{"type":"input_text","text":"I"}]}],
		"input":"a","output":[{"type":"message","id":"msg_1","role":"assistant","status":"incomplete","content":[{"type":"output_text","text":"b"},{"type":"refusal","refusal":"c"}]}]}`}, false, [][]string{
		{`"session_id":"resp_2"`, `"user":"a"`, `"assistant":"b\n\nc"`, `"status":"partial"`, `"finish_reason":"max_output_tokens"`, `"system":"I"`},
	}},
	"responses: a request": {[]string{`{"model":"m","input":"a"}`}, false, [][]string{{`"user":"a"`, `"status":"pending"`}}},
	"responses: items one a line": {[]string{`{"type":"message","role":"user","content":"a","status":"completed"}`, `{"type":"apply_patch_call","call_id":"c1","operation":{"type":"delete_file"}}`, `{"type":"apply_patch_call_output","call_id":"c1","output":[{"type":"input_text","text":"r"}]}`,
		`{"type":"newest_call","call_id":"c2","what":1}`, `{"type":"message","role":"assistant","content":[{"type":"output_text","text":"b"}]}`}, true, [][]string{
		{`"user":"a"`, `"assistant":"b"`, `"tool_calls":[{"id":"c1","name":"apply_patch_call","arguments":{"type":"delete_file"},"result":[{"type":"input_text","text":"r"}]},{"id":"c2","name":"newest_call","what":1}]`},
	}},
	"responses": {[]string{`{"id":"resp_1","object":"response","created_at":1700000000,"model":"m","instructions":"I","input":[{"role":"user","content":"a"}],"output":[{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm"}]},{"type":"function_call","id":"fc_1","call_id":"c1","name":"f","arguments":"{ }","status":"completed"},{"type":"function_call_output","call_id":"c1","output":"r"},{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"b","annotations":[{"type":"url_citation"}]}]}],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}`}, false, [][]string{
		{`"session_id":"resp_1"`, `"user":"a"`, `"assistant":"b"`, `"system":"I"`, `"arguments":"{ }","result":"r"`, `"text":"hm"`, `"url_citation"`, `"model":"m"`, `"usage":{"input_tokens":1,"output_tokens":2}`, `"timestamp":"2023-11-14T22:13:20.000000+00:00"`},
	}},
}

func TestSamples(t *testing.T) {
	for name, s := range samples {
		t.Run(name, func(t *testing.T) {
			payloads := convert(t, s.several, s.elements...)
			if !slices.Equal(payloads, convert(t, s.several, s.elements...)) {
				t.Error("it is not the same each time")
			}
			sessions := make(map[string][]string)
			var all []string
			for _, p := range payloads {
				snap, err := transcript.Decode([]byte(p), 0)
				if err != nil {
					t.Fatalf("%v: %s", err, p)
				}
				sessions[snap.SessionID] = append(sessions[snap.SessionID], p)
				all = append(all, string(snap.Payload()))
			}
			if len(all) != len(s.turns) {
				t.Fatalf("%d turns, not %d:\n%s", len(all), len(s.turns), strings.Join(all, "\n"))
			}
			for i, wants := range s.turns {
				for _, want := range wants {
					if !strings.Contains(all[i], want) {
						t.Errorf("turn %d has no %s:\n%s", i+1, want, all[i])
					}
				}
			}
			for session, payloads := range sessions {
				turns := stored(t, payloads)
				for _, f := range formats {
					exported, err := Append(nil, f.name, session, turns, "")
					if err != nil {
						t.Fatal(err)
					}
					if again := stored(t, convert(t, true, string(exported))); !slices.Equal(canonical(turns), canonical(again)) {
						t.Errorf("through %s\n%s\nbecame\n%s\nby %s", f.name, strings.Join(canonical(turns), "\n"), strings.Join(canonical(again), "\n"), exported)
					}
				}
			}
		})
	}
}

// What is not understood is refused by its place, and nothing that was said is quoted.
func TestRefuses(t *testing.T) {
	for element, want := range map[string]string{
		`{"messages":[{"role":"user","content":"secret"},{"role":"secret","content":"secret"}]}`: "/messages/1/role is no role that is known",
		`[{"role":"user","content":5}]`:                                                                                "/0/content must be a string or an array of parts, not a number",
		`[{"role":"user"}]`:                                                                                            "/0/content is missing",
		`[{"role":"user","content":"secret"},{"secret":"secret"}]`:                                                     "/1 is no message that is known",
		`{"messages":[{"role":"user","content":[{"secret":1}]}]}`:                                                      "/messages/0/content/0/type is missing",
		`{"messages":[{"role":"assistant","content":"a","tool_calls":{"secret":1}}]}`:                                  "/messages/0/tool_calls must be an array, not an object",
		`{"messages":[{"role":"user","content":"a","timestamp":"secret"}]}`:                                            "/messages/0/timestamp must be an RFC 3339 time",
		`{"mapping":{"a/b":{"message":{"author":{"role":"secret"},"content":{"content_type":"text","parts":["x"]}}}}}`: "/mapping/a~1b/message/author/role is no role",
		`{"mapping":{"a":{"message":{"author":{"role":"user"}}}}}`:                                                     "/mapping/a/message/content is missing",
		`{"chat_messages":[{"sender":"secret","text":"secret"}]}`:                                                      "/chat_messages/0/sender is no role",
		`{"chat_messages":[{"sender":"human"}]}`:                                                                       "/chat_messages/0/text is missing",
		`{"conversations":[{"from":"human","value":7}]}`:                                                               "/conversations/0/value must be a string, not a number",
		`{"conversations":["secret"]}`:                                                                                 "/conversations/0 must be an object, not a string",
		`{"type":"human","data":{}}`:                                                                                   "/data/content is missing",
		`{"lc":1,"type":"constructor","id":["x","Secret"],"kwargs":{"content":"a"}}`:                                   "/id is no message that is known",
		`{"output":[{"type":"secret_item"}]}`:                                                                          "/output/0/type is no item that is known",
		`{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"secret"}}`:               "/url names /embeddings, an endpoint whose requests have no conversation; expected is a request to one that has, as /v1/chat",
		`{"custom_id":"a","method":"POST","url":"/v1/moderations","body":{"model":"m","input":["secret"]}}`:            "/url names /moderations, an endpoint",
		`{"custom_id":"a","method":"POST","url":"/v1/completions","body":{"model":"m","prompt":"secret"}}`:             "/url names /completions, an endpoint",
		`{"custom_id":"a","method":"POST","url":"/secret","body":{"model":"m","input":"secret"}}`:                      "/url names an endpoint whose requests have no conversation that is known",
		`{"model":"text-embedding-3-small","input":"secret"}`:                                                          "/model is that of an endpoint whose requests have no conversation",
		`{"request":{"model":"m","input":"secret","encoding_format":"float"}}`:                                         "/request/encoding_format is that of an endpoint",
		`{"foo":"secret"}`: "it is not recognised; expected is a turn",
		`"secret"`:         "it is not recognised",
		`{"mapping":{"` + strings.Repeat("secret", 20) + `":7}}`:                       "/mapping/… must be an object",
		`[{"role":"user","content":"a","timestamp":"0x1p9"}]`:                          "/0/timestamp must be an RFC 3339 time",
		`{"request":{"messages":[{"role":"user","content":"a"}]},"response":"secret"}`: "/response must be an object, not a string",
	} {
		c := &Converter{Session: "file", Take: func(p [][]byte) error { t.Errorf("%s gives %s", element, p); return nil }}
		_, err := c.Add(jsontext.Value(element), 0)
		var refused *FormatError
		if !errors.As(err, &refused) || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", element, err)
		}
	}
}

// A message that is refused ends its conversation before the turn that may lack it: nothing is
// stored that lacks some of its messages, and once it is corrected nothing is there twice.
func TestRefusedMessageEndsItsConversation(t *testing.T) {
	const good = `{"role":"assistant","content":"b2"}`
	read := func(third string) (taken []string, c *Converter) {
		c = &Converter{Session: "file", Take: func(p [][]byte) error { taken = append(taken, string(p[0])); return nil }}
		for i, e := range []string{
			`{"role":"user","content":"a1"}`, `{"role":"assistant","content":"b1"}`, `{"role":"user","content":"a2"}`, third, `{"role":"assistant","content":"c2"}`,
			`{"role":"user","content":"a3"}`, `{"role":"user","content":"x","session_id":"other"}`, `{"conversations":[{"from":"human","value":"whole"}]}`,
		} {
			if _, err := c.Add(jsontext.Value(e), i+1); (err != nil) != (e == third && third != good) {
				t.Errorf("%s: %v", e, err)
			}
		}
		if err := c.End(); err != nil {
			t.Error(err)
		}
		return taken, c
	}
	whole, _ := read(good)
	for _, bad := range []string{`{"role":"assistant","content":7}`, `{"role":"nobody","content":"b2"}`, `{"rle":"assistant","content":"b2"}`, `7`} {
		taken, c := read(bad)
		if len(taken) != 3 || len(whole) != 5 || c.LeftOut != 3 {
			t.Errorf("%s: %d messages are left out of %s", bad, c.LeftOut, strings.Join(taken, "\n"))
		}
		for _, p := range taken {
			if !slices.Contains(whole, p) {
				t.Errorf("%s gives %s, which is not there otherwise", bad, p)
			}
		}
	}
}

// A conversation of a list that is refused leaves the others, with the names that they have when it is corrected.
func TestRefusedConversationLeavesOthers(t *testing.T) {
	read := func(role string) (taken, refused []string) {
		c := &Converter{Session: "file", Refuse: func(err error) { refused = append(refused, err.Error()) }, Take: func(list [][]byte) error {
			taken = append(taken, string(list[0]))
			return nil
		}}
		for i, e := range []string{
			`{"data":[{"messages":[{"role":"user","content":"a"}]},{"messages":[{"role":"` + role + `","content":"b"}]},{"messages":[{"role":"user","content":"c"}]}]}`,
			`{"messages":[{"role":"` + role + `","content":"d"}]}`, `{"messages":[{"role":"user","content":"e"}]}`,
		} {
			if _, err := c.Add(jsontext.Value(e), i+1); err != nil {
				refused = append(refused, err.Error())
			}
		}
		return taken, refused
	}
	whole, none := read("user")
	taken, refused := read("nobody")
	if len(whole) != 5 || len(none) != 0 || len(taken) != 3 || len(refused) != 2 || !strings.HasPrefix(refused[0], "/data/1/messages/0/role is no role") {
		t.Fatalf("%q %q %q %q", whole, none, taken, refused)
	}
	session := func(p string) string { return p[:strings.Index(p, ",")] }
	for i, k := range []int{0, 2, 4} {
		if session(taken[i]) != session(whole[k]) {
			t.Errorf("%s is called otherwise than %s", taken[i], whole[k])
		}
	}
}

// Members that have no place and resemble those that have one are told, in each format and wherever they are.
func TestMisspelt(t *testing.T) {
	for element, want := range map[string]string{
		`{"messages":[{"role":"assistant","content":"x","toolCalls":[],"annotations":[1]}],"object":"x"}`:                                         "toolCalls tool_calls",
		`{"uuid":"s","chat_messages":[{"sender":"human","text":"x","attachmnets":[{}],"updated_at":"2024-01-01T00:00:00Z"}]}`:                     "attachmnets attachments",
		`{"mapping":{"a":{"message":{"author":{"role":"user"},"content":{"content_type":"text","parts":["x"]},"create_tim":5,"update_time":6}}}}`: "create_tim create_time",
		`{"conversations":[{"from":"human","value":"x","weight":1}],"sytem":"S","tools":[]}`:                                                      "sytem system",
		`{"type":"human","data":{"content":"h","aditional_kwargs":{"x":1},"example":false}}`:                                                      "aditional_kwargs additional_kwargs",
		`{"output":[{"type":"function_call","cal_id":"x","name":"f","arguments":"{}","status":"completed"}]}`:                                     "cal_id call_id",
		`{"custom_id":"r","url":"/v1/chat/completions","body":{"modle":"m","messages":[{"role":"user","content":"x"}]}}`:                          "modle model",
		`{"modle":"m","input":[{"role":"user","content":"x"}]}`:                                                                                   "modle model",
		`{"id":"r","output":[{"type":"message","role":"assistant","content":"x"}],"conversation":null,"object":"response"}`:                       "",
		`{"id":"r","output":[{"type":"message","role":"assistant","content":"x"}],"conversation":{"id":"conv_123"}}`:                              "",
		`[{"role":"user","content":"x","tmestamp":5}]`:                                                                                            "tmestamp timestamp",
	} {
		var found []string
		c := &Converter{Session: "file", Take: func([][]byte) error { return nil }, Misspelt: func(list []transcript.Misspelling) error {
			for _, m := range list {
				found = append(found, m.Member+" "+m.Meant)
			}
			return nil
		}}
		if _, err := c.Add(jsontext.Value(element), 0); err != nil || strings.Join(found, ", ") != want {
			t.Errorf("%s: %q: %v", element, found, err)
		}
	}
}

// What says nothing is counted.
func TestEmpty(t *testing.T) {
	c := &Converter{Session: "file", Take: func(p [][]byte) error { t.Errorf("%s", p); return nil }}
	for _, e := range []string{
		`{"messages":[]}`, `{"mapping":{}}`, `{"chat_messages":[]}`, `{"conversations":[]}`, `{"messages":[{"role":"user","content":""}]}`,
		`{"id":"g","mapping":{"a":{"message":{"author":{"role":"user"},"content":{"content_type":"text","parts":[]}}}}}`, `{"role":"user","content":""}`,
	} {
		if kind, err := c.Add(jsontext.Value(e), 1); err != nil || kind != Converted {
			t.Errorf("%s: kind %d: %v", e, kind, err)
		}
	}
	if err := c.End(); err != nil || c.Empty != 7 {
		t.Errorf("%d: %v", c.Empty, err)
	}
}

// A file is read element by element, and its text is UTF-8.
func TestElements(t *testing.T) {
	read := func(text string) (numbers int, err error) {
		r, err := OpenText(strings.NewReader(text))
		if err != nil {
			return 0, err
		}
		return numbers, Elements(r, 1<<20, func(e Element) error { numbers = e.Number; return nil })
	}
	for text, want := range map[string]int{`[1,2, {"a":1}]`: 3, `{"a":1}` + "\n" + `{"b":1}`: 2, "\xef\xbb\xbf[]": 0, "\xef\xbb\xbf{}": 1} {
		if n, err := read(text); err != nil || n != want {
			t.Errorf("%q: %d elements: %v", text, n, err)
		}
	}
	for text, want := range map[string]string{
		"": "it is empty; expected is a turn", " \n": "it is empty", mark: "it is empty",
		"\xef\xbb\xbf[1,\"a\xff\"]": "at byte 8: invalid UTF-8", "\xef\xbb\xbf[1] 2": "at byte 8: there is more",
		"[1,\"a\xff\"]": "at byte 5: invalid UTF-8", `["\ud800"]`: "at byte 2: invalid escape sequence, or lone surrogate", `[1,`: "it ends too early", `[{"a":1,"a":2}]`: "twice",
		"[1] 2": "there is more", "\xff\xfe[\x00": "it is UTF-16: only UTF-8 is read", "\xfe\xff\x00[": "UTF-16", "[\x00]\x00": "UTF-16LE", "\x00[\x00]": "UTF-16BE", "\xff\xfe\x00\x00": "UTF-32",
		`["` + strings.Repeat("x", 2<<20) + `"]`: "element 1, from byte 1 on, is longer than the 1048576 bytes",
	} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}
